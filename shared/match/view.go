package match

import (
	"strings"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// ViewOf returns what tells path options from others: routes with the same see paths in the same form. Empty: as the
// node's settings say.
func ViewOf(o *configv1.PathOptions) string {
	if o == nil {
		return ""
	}
	var b strings.Builder
	m := o.ProtoReflect()
	for fields, i := m.Descriptor().Fields(), 0; i < fields.Len(); i++ {
		if f := fields.Get(i); m.Has(f) {
			b.WriteString(string(f.Name()) + "=" + m.Get(f).String() + " ")
		}
	}
	return b.String()
}
