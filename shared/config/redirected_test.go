package config

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"gateway.internal/shared/middleware"
)

// TestWriteOnlySettingsSayWhereTheyGo: each either is sent to what a field of the settings names, or stays on nodes, as
// it is said here. Whoever adds one has to decide.
func TestWriteOnlySettingsSayWhereTheyGo(t *testing.T) {
	stay := map[string]bool{"oidc.session_secret": true, "oidc.previous_session_secret": true, "jwt.issuers.jwks": true}
	for _, name := range middleware.Names() {
		typ, _ := middleware.Lookup(name)
		settings := typ.New().ProtoReflect().Descriptor()
		for _, f := range writeOnlyFieldsOf(settings) {
			if !f.is {
				for _, in := range writeOnlyFieldsOf(f.Message()) {
					if place := name + "." + f.name + "." + in.name; !in.is || !stay[place] {
						t.Errorf("%s is below the first level: where is it sent to?", place)
					}
				}
				continue
			}
			to := middleware.SentTo(name, f.name)
			if (to == "") != stay[name+"."+f.name] {
				t.Errorf("%s.%s is sent to %q", name, f.name, to)
			}
			if to != "" && settings.Fields().ByName(protoreflect.Name(to)) == nil {
				t.Errorf("%s.%s is sent to %q, which is no setting", name, f.name, to)
			}
		}
	}
}
