return {
  on_request = function(_, hub)
    return hub.reject({ status = 429, message = "no", retry_after = -1 })
  end,
}
