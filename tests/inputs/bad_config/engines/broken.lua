-- An engine with a mistyped field.
return {
  program = { "a" },
  comand = function()
    return { argv = {} }
  end,
}
