-- An engine with a type of key that there is not.
return {
  program = { "a" },
  keys = {
    threads = "integer",
  },
  command = function()
    return { argv = {} }
  end,
  ready = { get = "/health" },
}
