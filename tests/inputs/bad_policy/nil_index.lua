return {
  on_request = function(req, hub)
    return hub.models.nosuch.name
  end,
}
