local limit = nil
return { limit.x }
