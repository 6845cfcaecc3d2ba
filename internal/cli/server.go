package cli

import "encoding/json"

// Server is the running server, for commands in packages of their own.
type Server struct{ *client }

// Server finds it as all commands do.
func (e *Env) Server() (Server, error) {
	c, err := newClient(e)
	return Server{c}, err
}

// Ask gets a document, or posts body for one. token: in place of the operator's. An error may be a *problem.Answer.
func (s Server) Ask(e *Env, token, path string, body any) (json.RawMessage, error) {
	c := *s.client
	if token != "" {
		c.Token = token
	}
	if body != nil {
		return c.post(e.Ctx, path, body)
	}
	return c.get(e.Ctx, path, nil)
}
