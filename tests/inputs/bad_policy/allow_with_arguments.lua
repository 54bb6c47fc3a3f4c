return {
  on_load = function(_, hub) return hub.allow(true) end,
}
