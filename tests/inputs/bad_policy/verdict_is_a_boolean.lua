return {
  on_idle = function()
    return true
  end,
}
