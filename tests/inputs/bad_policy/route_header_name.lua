return {
  on_request = function(_, hub) return hub.route({ headers = { ["x y"] = "z" } }) end,
}
