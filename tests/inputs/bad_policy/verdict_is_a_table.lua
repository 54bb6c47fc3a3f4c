return {
  on_load = function()
    return { allow = true }
  end,
}
