return {
  on_request = function()
    return ("x"):rep(1 << 40)
  end,
}
