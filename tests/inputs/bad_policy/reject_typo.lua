return {
  on_request = function(req, hub)
    return hub.reject({
      status = 400,
      mesage = "no",
    })
  end,
}
