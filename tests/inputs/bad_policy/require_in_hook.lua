return {
  on_request = function()
    return require("late")
  end,
}
