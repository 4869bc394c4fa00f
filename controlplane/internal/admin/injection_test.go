package admin

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
)

// injections are texts that mean something to who reads SQL or YAML, or to a terminal.
var injections = []string{
	`'); DROP TABLE routes; --`,
	"x\"\n- &a !!python/object:os.system {name: evil}\nroutes: []\n# \u2028 *a ${env:HOME} \x1b[2J",
}

// texts calls f for every text that a message may have, with what sets it. It goes through messages that nobody has
// filled in.
func texts(d protoreflect.MessageDescriptor, depth int, path string, f func(path string,
	set func(m protoreflect.Message, text string))) {
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		at := path + "." + string(fd.Name())
		switch {
		case fd.IsMap():
			if fd.MapValue().Kind() == protoreflect.StringKind {
				f(at+"[key]", func(m protoreflect.Message, text string) {
					m.Mutable(fd).Map().Set(protoreflect.ValueOfString(text).MapKey(), protoreflect.ValueOfString("v"))
				})
				f(at+"[value]", func(m protoreflect.Message, text string) {
					m.Mutable(fd).Map().Set(protoreflect.ValueOfString("k").MapKey(), protoreflect.ValueOfString(text))
				})
			}
		case fd.Kind() == protoreflect.StringKind && fd.IsList():
			f(at, func(m protoreflect.Message, text string) {
				m.Mutable(fd).List().Append(protoreflect.ValueOfString(text))
			})
		case fd.Kind() == protoreflect.StringKind:
			f(at, func(m protoreflect.Message, text string) { m.Set(fd, protoreflect.ValueOfString(text)) })
		case fd.Kind() == protoreflect.MessageKind && depth > 0 && fd.Message().ParentFile().Package() != "google.protobuf":
			texts(fd.Message(), depth-1, at, func(path string, set func(protoreflect.Message, string)) {
				f(path, func(m protoreflect.Message, text string) {
					if fd.IsList() {
						set(m.Mutable(fd).List().AppendMutable().Message(), text)
						return
					}
					set(m.Mutable(fd).Message(), text)
				})
			})
		}
	}
}

// bases are resources that a text more makes no difference to.
func bases() map[config.Kind]config.Message {
	return map[config.Kind]config.Message{
		config.Policy: &configv1.Policy{Name: "p"}, config.Consumer: &configv1.Consumer{Name: "c"},
		config.Certificate: &configv1.Certificate{Name: "w", Hosts: []string{"w.test"}, Acme: &configv1.ACME{}},
		config.Middleware:  &configv1.Middleware{Name: "m", Type: "headers", Order: 1},
		config.Pipeline:    &configv1.Pipeline{Name: "l"},
		config.Service:     &configv1.Service{Name: "s"},
		config.Route:       &configv1.Route{Name: "r", Path: "/r", DirectResponse: &configv1.DirectResponse{Status: 204}},
	}
}

// TestInjections puts texts that mean something to others into every text of every kind. Each is refused, or kept as it
// is: in the store, in replies, in the audit trail, and in files that are written and read again. Nothing else changes.
func TestInjections(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.must("POST", "/api/v1/config/apply", all)
	kept, tried := 0, 0
	for k, base := range bases() {
		texts(base.ProtoReflect().Descriptor(), 3, k.String(), func(path string, set func(protoreflect.Message, string)) {
			for i, text := range injections {
				tried++
				m := proto.CloneOf(base)
				set(m.ProtoReflect(), text)
				raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				name := m.GetName()
				body := fmt.Sprintf(`{"%s":[%s]}`, k.Plural(), raw)
				r := a.call("POST", "/api/v1/config/apply", body)
				if r.status >= 500 {
					t.Errorf("%s %d: %d %s", path, i, r.status, r.raw)
				}
				if r.status >= 300 {
					return // and so is what has more than that
				}
				kept++
				v := a.catalog.Current()
				e := v.Config.ByName(k, name)
				if e == nil {
					t.Errorf("%s %d: it is accepted and not there", path, i)
					continue
				}
				written, err := file.Marshal(file.Of([]config.Message{proto.CloneOf(e.Message)}))
				if err != nil {
					t.Errorf("%s %d: %v", path, i, err)
					continue
				}
				doc, err := file.Load([]string{"-"}, bytes.NewReader(written))
				if err != nil {
					t.Errorf("%s %d: what is written can't be read: %v\n%s", path, i, err, written)
					continue
				}
				if back := file.Resources(doc.Configuration, k); len(back) != 1 || back[0].GetName() != name {
					t.Errorf("%s %d: %d are written\n%s", path, i, len(back), written)
				}
				if name != base.GetName() { // the others replace each other
					a.must("DELETE", "/api/v1/config/"+k.Plural()+"/"+e.ID(), "")
				}
			}
		})
		a.call("DELETE", "/api/v1/config/"+k.Plural()+"/"+base.GetName(), "") // where one was kept
	}
	if tried < 100 || kept < 20 {
		t.Errorf("%d were tried, and %d kept", tried, kept)
	}
	r := a.must("GET", "/api/v1/config/routes", "")
	if got := r.names(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("there are %v", got)
	}
	for _, query := range []string{"name=", "labels=", "sort=", "path=", "host=", "service_id="} {
		for _, text := range injections {
			if r := a.call("GET", "/api/v1/config/routes?"+query+url.QueryEscape(text), ""); r.status >= 500 {
				t.Errorf("%s: %d %s", query, r.status, r.raw)
			}
		}
	}
	for _, field := range []string{"actor", "address", "call", "name", "kind", "outcome", "since"} {
		for _, text := range injections {
			if r := a.call("GET", "/api/v1/audit?"+field+"="+url.QueryEscape(text),
				""); r.status >= 500 || r.status == 200 && r.Meta.Total != 0 {
				t.Errorf("%s: %d %s", field, r.status, r.raw)
			}
		}
	}
}
