-- A model of images says nothing until its picture is done, however long that takes: it is left alone. One
-- that only errs is left alone at night, an hour at a time, since nobody could look into it.

---@type hub.Policy
return {
  on_trouble = function(trouble, hub)
    local is_image = trouble.model.type:find("^image") ~= nil
    if trouble.kind == "silent" and is_image then
      return hub.leave({ reason = "a picture takes its time" })
    elseif trouble.kind == "errors" and hub.time().hour < 6 then
      return hub.keep({ seconds = 3600 })
    end
  end,
}
