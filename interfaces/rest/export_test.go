package rest

// Routes lists every route of the API as "METHOD /path", for tests that must leave none out.
func (a *API) Routes() []string {
	var list []string
	for _, r := range a.routes() {
		list = append(list, r.method+" "+r.path)
	}
	return list
}
