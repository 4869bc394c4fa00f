package cel

import (
	"sync"
	"unsafe"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"gateway.internal/dataplane/internal/exchange"
)

// values are the variables of an exchange, of which none is looked at before an expression asks for it. It is used for
// one exchange at a time.
type values struct {
	x     *exchange.Exchange
	names names
	head  mapping
	query mapping
	now   types.Timestamp
	ints  [2]types.Int
	texts [16]types.String // that are in use
	n     int
	// parsed is the query, once it was read as a whole, and scans how often it was looked through before.
	parsed map[string]string
	scans  int
}

var pool = sync.Pool{New: func() any { return new(values) }}

func valuesOf(x *exchange.Exchange) *values {
	v := pool.Get().(*values)
	v.x = x
	return v
}

// release lets go of the exchange, of which no value may be in use any more.
func (v *values) release() {
	clear(v.texts[:v.n])
	v.x, v.n, v.names, v.head, v.query = nil, 0, names{}, mapping{}, mapping{}
	v.parsed, v.scans = nil, 0
	pool.Put(v)
}

// Parent implements interpreter.Activation.
func (*values) Parent() interpreter.Activation { return nil }

// nobody is who sends a request that nobody has been found for.
var nobody exchange.Principal

// ResolveName implements interpreter.Activation.
func (v *values) ResolveName(name string) (any, bool) {
	x := v.x
	switch name {
	case "request.method":
		return v.text(x.Request.Method), true
	case "request.path":
		return v.text(x.Request.Path), true
	case "request.host":
		return v.text(x.Request.Host), true
	case "request.scheme":
		return v.text(x.Scheme), true
	case "request.headers":
		v.head = mapping{v, (*fields)(v)}
		return &v.head, true
	case "request.query":
		v.query = mapping{v, (*parameters)(v)}
		return &v.query, true
	case "request.size":
		v.ints[0] = types.Int(x.Request.ContentLength)
		return boxed(&v.ints[0]), true
	case "client.address":
		return v.text(x.ClientText), true
	case "client.port":
		v.ints[1] = types.Int(x.Client.Port())
		return boxed(&v.ints[1]), true
	case "now":
		v.now.Time = x.Start
		return boxed(&v.now), true
	}
	if len(name) > len("client.tls.") && name[:len("client.tls.")] == "client.tls." {
		return v.tls(name[len("client.tls."):])
	}
	return v.identity(name)
}

func (v *values) identity(name string) (any, bool) {
	p := v.x.Principal
	if p == nil {
		p = &nobody
	}
	switch name {
	case "identity.authenticated":
		return types.Bool(v.x.Principal != nil), true
	case "identity.consumer":
		return v.text(p.Consumer), true
	case "identity.scheme":
		return v.text(p.Scheme), true
	case "identity.groups":
		v.names.groups = list{p.Groups}
		return &v.names.groups, true
	case "identity.scopes":
		v.names.scopes = list{p.Scopes}
		return &v.names.scopes, true
	case "identity.claims":
		return p.Claims, true
	}
	return nil, false
}

func (v *values) tls(name string) (any, bool) {
	t := v.x.TLS
	switch name {
	case "version":
		return v.text(t.VersionText()), true
	case "server_name":
		return v.text(t.Name()), true
	case "subject":
		return v.text(t.Facts().Subject), true
	case "issuer":
		return v.text(t.Facts().Issuer), true
	case "san":
		return v.text(t.Facts().SAN), true
	case "serial":
		return v.text(t.Facts().Serial), true
	case "fingerprint":
		return v.text(t.Facts().Fingerprint), true
	}
	return nil, false
}

// text returns a text as CEL has it. The first of an evaluation do not allocate.
func (v *values) text(s string) any {
	if v.n == len(v.texts) {
		return types.String(s)
	}
	v.texts[v.n] = types.String(s)
	v.n++
	return boxed(&v.texts[v.n-1])
}

// boxed returns what a pointer points to as an interface value that shares its memory, where a conversion would copy it
// to the heap: see BenchmarkExpressions. The memory must not change as long as the value is in use. It goes by how the
// compiler lays out interfaces, which TestBoxed checks.
func boxed[T types.String | types.Int | types.Timestamp](p *T) (v any) {
	v = *new(T)
	(*[2]unsafe.Pointer)(unsafe.Pointer(&v))[1] = unsafe.Pointer(p)
	return v
}
