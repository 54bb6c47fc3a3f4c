return {
  on_load = function(_, hub) return hub.wait({ seconds = 1, client = "me" }) end,
}
