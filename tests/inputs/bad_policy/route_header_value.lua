return {
  on_request = function(_, hub) return hub.route({ headers = { x = "a\r\nb: c" } }) end,
}
