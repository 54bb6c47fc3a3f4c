return {
  on_request = function(_, hub)
    return hub.unload()
  end,
}
