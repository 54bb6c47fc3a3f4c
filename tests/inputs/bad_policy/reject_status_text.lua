return {
  on_request = function(_, hub) return hub.reject({ status = "many", message = "no" }) end,
}
