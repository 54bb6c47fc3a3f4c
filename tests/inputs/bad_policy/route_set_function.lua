return {
  on_request = function(_, hub) return hub.route({ set = { temperature = print } }) end,
}
