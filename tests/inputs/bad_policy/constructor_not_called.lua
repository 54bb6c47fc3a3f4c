return {
  on_idle = function(_, hub)
    return hub.unload
  end,
}
