package match

// connect is the method by which clients ask for a tunnel (RFC 9110 section 9.3.6). A rule for any method is not for
// it: whoever lets clients tunnel says so.
const connect = "CONNECT"

// takes tests the method alone.
func (r *Rule) takes(method string) bool {
	if len(r.methods) == 0 {
		return r.connects || method != connect
	}
	return contains(r.methods, method)
}

// TakesConnect reports whether the route's methods name CONNECT.
func (r *Rule) TakesConnect() bool { return r.takes(connect) }

// TakesNoPath reports whether the path of a CONNECT, which is empty, matches.
func (r *Rule) TakesNoPath() bool { return r.matchesPath("") }
