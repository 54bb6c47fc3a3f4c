return {
  on_load = function(_, hub) return hub.wait({}) end,
}
