local alpha = hub.models.alpha
return {}
