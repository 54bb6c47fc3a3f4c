return {
  on_request = function(_, hub) return hub.route({ unset = "seed" }) end,
}
