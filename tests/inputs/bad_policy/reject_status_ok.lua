return {
  on_request = function(_, hub) return hub.reject({ status = 200, message = "fine" }) end,
}
