package exchange

// Principal is whom a request comes from, as a step has found out. It is immutable once it is an exchange's, since many
// may share it.
type Principal struct {
	// Consumer is the name of the client application; empty: it is none that the configuration knows.
	Consumer string
	// Groups and Scopes are what it belongs to, and what it may do.
	Groups, Scopes []string
	// Claims are what its token says: values as encoding/json has them.
	Claims map[string]any
}

// Consumer returns the name of the client application that a step has identified; empty: none.
func (x *Exchange) Consumer() string {
	if x.Principal == nil {
		return ""
	}
	return x.Principal.Consumer
}
