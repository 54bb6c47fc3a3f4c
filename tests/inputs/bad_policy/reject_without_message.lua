return {
  on_request = function(_, hub) return hub.reject({ status = 429 }) end,
}
