return {
  on_request = function(_, hub) return hub.wait({ seconds = 1, client = {} }) end,
}
