return {
  on_request = function()
    error({ code = 5 })
  end,
}
