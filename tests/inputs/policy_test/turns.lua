-- A full group unloads what it holds to make room for the next.
return {
  on_load = function(load, hub)
    local group = load.group
    if group and group.free <= 0 then
      return hub.evict(group.loaded)
    end
  end,
  on_request = function(req, hub)
    if req.headers["x-fail"] then
      return hub.reject({ status = 200, message = "no" })
    end
    hub.log.info("asked for", req.model)
  end,
}
