return {
  on_request = function()
    return load("return 1")()
  end,
}
