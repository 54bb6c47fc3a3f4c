return {
  on_request = function()
    error("I do not like it")
  end,
}
