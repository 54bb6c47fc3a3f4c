-- An engine whose check fails.
return {
  program = { "a" },
  check = function(model)
    return { warnings = { model.nmae } }
  end,
  command = function()
    return { argv = {} }
  end,
  ready = { get = "/health" },
}
