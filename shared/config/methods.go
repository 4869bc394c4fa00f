package config

import (
	"fmt"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/method"
)

// normaliseMethods writes registered methods in their own letters.
func normaliseMethods(r *configv1.Route) {
	r.Method = method.Normal(r.GetMethod())
	for i, m := range r.GetMethods() {
		r.Methods[i] = method.Normal(m)
	}
}

// methods finds methods of a route that are not registered: they may be meant, or mistyped.
func (w *warner) methods(r *configv1.Route) {
	w.method(r, "method", r.GetMethod())
	for i, m := range r.GetMethods() {
		w.method(r, fmt.Sprintf("methods[%d]", i), m)
	}
}

// middleware finds methods that are not registered in settings.
func (w *warner) middleware(m *configv1.Middleware) {
	if e := w.next.ByID(Middleware, m.GetId()); e != nil {
		if cors, ok := e.Settings.(*middlewarev1.Cors); ok {
			for i, name := range cors.GetAllowMethods() {
				w.method(m, fmt.Sprintf("config.allow_methods[%d]", i), name)
			}
		}
	}
}

func (w *warner) method(of Message, field, m string) {
	if m == "" || m == "*" || method.Registered(m) {
		return
	}
	w.say("methods that are not registered", of, field, m, "is no registered HTTP method%s", method.Hint(m))
}
