return {
  on_request = function(_, hub) return hub.route("beta") end,
}
