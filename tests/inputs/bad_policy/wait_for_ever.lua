return {
  on_load = function(_, hub) return hub.wait({ seconds = math.huge }) end,
}
