package config

import (
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/middleware"
)

// of describes a kind by its message.
type of[M Message] struct {
	one, many string
	wire      streamv1.Kind
	// apart says that nodes get the kind apart from the configuration. Nothing refers to it, and it to nothing.
	apart bool
	// refersTo are the kinds of references, all before this one, but for what settings of middleware name: a service has
	// a pipeline, whose middleware may ask services.
	refersTo []Kind
	// references calls add with every reference; nil: there are none.
	references func(m M, add func(field string, k Kind, ref *string))
	// fill drops what is read-only and fills in defaults of what is put, which is not at rest; nil: there is nothing to
	// do. stored is what is there, or nothing.
	fill func(m, stored M, how filling)
	// check validates one by itself.
	check func(c *checker, m M)
	// warn finds what hardly anybody means; nil: there is nothing to look for.
	warn func(w *warner, m M)
}

// filling is how a resource is put.
type filling struct {
	// obtains says that the certificate comes from an ACME server, restore that it has been part of an earlier revision.
	obtains, restore bool
}

// description is of for any message.
type description struct {
	one, many  string
	wire       streamv1.Kind
	apart      bool
	descriptor protoreflect.MessageDescriptor
	make       func() Message
	refersTo   []Kind
	references func(m Message, add func(field string, k Kind, ref *string))
	fill       func(m, stored Message, how filling)
	check      func(c *checker, m Message)
	warn       func(w *warner, m Message)
}

func (o of[M]) any() description {
	var none M
	t := none.ProtoReflect().Type()
	d := description{
		one: o.one, many: o.many, wire: o.wire, apart: o.apart, refersTo: o.refersTo, descriptor: t.Descriptor(),
		make:       func() Message { return t.New().Interface().(M) },
		references: func(Message, func(string, Kind, *string)) {},
		fill:       func(Message, Message, filling) {},
		check:      func(c *checker, m Message) { o.check(c, m.(M)) },
		warn:       func(*warner, Message) {},
	}
	if o.references != nil {
		d.references = func(m Message, add func(string, Kind, *string)) { o.references(m.(M), add) }
	}
	if o.fill != nil {
		d.fill = func(m, stored Message, how filling) {
			before, _ := stored.(M)
			o.fill(m.(M), before, how)
		}
	}
	if o.warn != nil {
		d.warn = func(w *warner, m Message) { o.warn(w, m.(M)) }
	}
	return d
}

// descriptions are made at the first use: what they consist of asks for them.
var descriptions struct {
	sync.Once
	all [lastKind + 1]description
}

// describe returns what there is to say of a kind; nothing of what is none.
func describe(k Kind) *description {
	descriptions.Do(func() { descriptions.all = described() })
	if k > lastKind {
		k = 0
	}
	return &descriptions.all[k]
}

// described has the kinds. A new one is an entry here and a constant in its place; its message, with a list in
// gateway.config.v1.Configuration, and a number in gateway.stream.v1.Kind. Files, changes, history and the stream take
// it from there. The control plane's own part is an entry by kind each in store/sql (columns, with a migration), admin
// (its service, with http.yaml) and cli (what a table shows); tests of these find a kind that one lacks.
func described() [lastKind + 1]description {
	return [...]description{
		Policy: of[*configv1.Policy]{
			one: "policy", many: "policies", wire: streamv1.Kind_KIND_POLICY,
			check: (*checker).policy,
		}.any(),
		Certificate: of[*configv1.Certificate]{
			one: "certificate", many: "certificates", wire: streamv1.Kind_KIND_CERTIFICATE,
			fill: func(m, stored *configv1.Certificate, how filling) {
				if !how.obtains && !how.restore {
					keepObtained(m, stored)
				}
				keepKeyPair(m, stored, how.restore)
				m.NotAfter = nil
				fillCertificate(m)
			},
			check: (*checker).certificate,
			warn:  (*warner).certificate,
		}.any(),
		Consumer: of[*configv1.Consumer]{
			one: "consumer", many: "consumers", wire: streamv1.Kind_KIND_CONSUMER, apart: true,
			fill:  func(m, _ *configv1.Consumer, _ filling) { sealCredentials(m) },
			check: (*checker).consumer,
		}.any(),
		Middleware: of[*configv1.Middleware]{
			one: "middleware", many: "middleware", wire: streamv1.Kind_KIND_MIDDLEWARE,
			refersTo: []Kind{Service},
			references: func(m *configv1.Middleware, add func(string, Kind, *string)) {
				middleware.ServiceReferences(m.GetType(), m.GetConfig(), func(field string, ref *string) { add(field, Service, ref) })
			},
			fill: func(m, _ *configv1.Middleware, _ filling) {
				middleware.Normalise(m.GetType(), m.GetConfig())
				if m.Enabled == nil {
					m.Enabled = proto.Bool(true)
				}
			},
			check: (*checker).middleware,
			warn:  (*warner).middleware,
		}.any(),
		Pipeline: of[*configv1.Pipeline]{
			one: "pipeline", many: "pipelines", wire: streamv1.Kind_KIND_PIPELINE,
			refersTo: []Kind{Middleware},
			references: func(m *configv1.Pipeline, add func(string, Kind, *string)) {
				for i := range m.GetMiddlewareIds() {
					add(fmt.Sprintf("middleware_ids[%d]", i), Middleware, &m.MiddlewareIds[i])
				}
			},
			check: (*checker).pipeline,
		}.any(),
		Service: of[*configv1.Service]{
			one: "service", many: "services", wire: streamv1.Kind_KIND_SERVICE,
			refersTo: []Kind{Pipeline, Policy, Certificate},
			references: func(m *configv1.Service, add func(string, Kind, *string)) {
				add("pipeline_id", Pipeline, &m.PipelineId)
				add("policy_id", Policy, &m.PolicyId)
				if t := m.GetTls(); t != nil {
					add("tls.certificate_id", Certificate, &t.CertificateId)
				}
			},
			fill: func(m, stored *configv1.Service, _ filling) {
				m.Healthy, m.DiscoveredAt, m.LastHealthCheck = nil, nil, nil
				fillEndpoints(m, stored)
				m.Protocol = orString(m.GetProtocol(), "http")
				m.LoadBalancerType = orString(m.GetLoadBalancerType(), "round_robin")
			},
			check: (*checker).service,
			warn:  (*warner).service,
		}.any(),
		Route: of[*configv1.Route]{
			one: "route", many: "routes", wire: streamv1.Kind_KIND_ROUTE,
			refersTo: []Kind{Service, Pipeline, Policy},
			references: func(m *configv1.Route, add func(string, Kind, *string)) {
				add("service_id", Service, &m.ServiceId)
				add("pipeline_id", Pipeline, &m.PipelineId)
				add("policy_id", Policy, &m.PolicyId)
				for i, b := range m.GetBackends() {
					add(fmt.Sprintf("backends[%d].service_id", i), Service, &b.ServiceId)
				}
				if mirror := m.GetMirror(); mirror != nil {
					add("mirror.service_id", Service, &mirror.ServiceId)
				}
			},
			fill: func(m, _ *configv1.Route, _ filling) {
				normaliseMethods(m)
				if m.Enabled == nil {
					m.Enabled = proto.Bool(true)
				}
			},
			check: (*checker).route,
			warn:  (*warner).route,
		}.any(),
	}
}

// refers reports whether resources of a kind may refer to those of another.
func (k Kind) refers(to Kind) bool { return slices.Contains(describe(k).refersTo, to) }
