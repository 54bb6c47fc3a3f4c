return {
  on_request = function()
    error()
  end,
}
