package extauth

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"gateway.internal/dataplane/internal/exchange"
	authv3 "gateway.internal/proto/gen/envoy/service/auth/v3"
	"gateway.internal/shared/middleware"
)

// decisionOf reads a message as Envoy does: status code 0 passes, any other refuses with the response that comes with
// it. A refusal stays one whatever it says: what can't be done of it is left out. Of a message that passes it is an
// error, unless errors pass as well: then the rest counts.
func (s *step) decisionOf(m *authv3.CheckResponse) (*answer, error) {
	if e := m.GetErrorResponse(); e != nil {
		a := &answer{failed: true}
		a.refusal(e, 503)
		return a, nil
	}
	if m.GetStatus().GetCode() != 0 {
		a := &answer{}
		a.refusal(m.GetDeniedResponse(), 403)
		return a, nil
	}
	a := &answer{passes: true, status: 200}
	ok := m.GetOkResponse()
	for _, name := range slices.Concat(s.taken, ok.GetHeadersToRemove()) {
		if middleware.ValidFieldName(name) && !exchange.KnownName(name).Renewed() {
			a.request = append(a.request, change{op: remove, name: name})
		}
	}
	for _, h := range ok.GetHeaders() {
		if strings.HasPrefix(h.GetHeader().GetKey(), ":") {
			continue // what a request asks for is not the service's to say
		}
		c, err := changeOf(h, set)
		switch {
		case err == nil:
		case !s.allows:
			return nil, err
		default:
			if a.cut = true; c.op != set && c.op != setIfThere || !middleware.ValidFieldName(c.name) {
				continue
			}
			c = change{op: remove, name: c.name} // the client's own must not stand in its place
		}
		if !exchange.KnownName(c.name).Renewed() {
			a.request = append(a.request, c)
		}
	}
	for _, h := range ok.GetResponseHeadersToAdd() {
		c, err := changeOf(h, add)
		if err != nil {
			if !s.allows {
				return nil, err
			}
			a.cut = true
			continue
		}
		if !exchange.KnownName(c.name).Answered() {
			a.response = append(a.response, c)
			c.apply(&a.header) // which tells whether it may be kept
		}
	}
	a.query = queryOf(ok)
	s.know(a, m.GetDynamicMetadata())
	return a, nil
}

// refusal makes a response what the client gets, but for what can't be said. otherwise is the status where it has none
// that can be one. Fields follow one another, as Set-Cookie may, where the message does not say which one overwrites
// others: there are none before.
func (a *answer) refusal(d *authv3.DeniedHttpResponse, otherwise int) {
	a.status, a.body = int(d.GetStatus().GetCode()), []byte(d.GetBody())
	if a.status < 200 || a.status > 599 {
		a.cut = a.status != 0
		a.status = otherwise
	}
	for _, h := range d.GetHeaders() {
		c, err := changeOf(h, add)
		if err != nil {
			a.cut = true
			continue
		}
		if h.GetAppend() != nil {
			c.op = add // which Envoy does whether it is true or false
		}
		c.apply(&a.header)
	}
}

// changeOf reads what becomes of a field. otherwise is what its action 0 means, which is also that of messages that say
// nothing. With an error the change has the name and what would have become of it.
func changeOf(h *authv3.HeaderValueOption, otherwise op) (change, error) {
	c := change{op: otherwise, name: h.GetHeader().GetKey()}
	value := h.GetHeader().GetValue()
	if value == "" {
		value = string(h.GetHeader().GetRawValue())
	}
	value = strings.Trim(value, " \t")
	c.values = []string{value}
	switch action := h.GetAppendAction(); {
	case h.GetAppend() != nil && h.GetAppend().GetValue():
		c.op = add
	case h.GetAppend() != nil, action == 2:
		c.op = set
	case action == 1:
		c.op = addIfAbsent
	case action == 3:
		c.op = setIfThere
	case action != 0:
		c.op = set
		return c, fmt.Errorf("the service says what is unknown of the field %q: append_action %d", c.name, action)
	}
	if !middleware.ValidFieldName(c.name) || !middleware.ValidFieldValue(value) {
		return c, fmt.Errorf("the service says a field %q that can't be one", c.name)
	}
	return c, nil
}

// know keeps what the service says of the client and the request, by the names that the settings have for it.
func (s *step) know(a *answer, metadata *structpb.Struct) {
	a.facts = s.factsOf(func(member string) []string { return valuesOf(metadata, member) })
	if s.principal == nil {
		return
	}
	a.principal = &exchange.Principal{
		Consumer: strings.Join(valuesOf(metadata, s.principal.GetConsumer()), ","),
		Groups:   valuesOf(metadata, s.principal.GetGroups()), Scopes: valuesOf(metadata, s.principal.GetScopes()),
		Claims: metadata.AsMap(),
	}
}

// valuesOf returns a value, or the values of a list, as texts.
func valuesOf(m *structpb.Struct, name string) (values []string) {
	v := m.GetFields()[name]
	list := []*structpb.Value{v}
	if l := v.GetListValue(); l != nil {
		list = l.GetValues()
	}
	for _, v := range list {
		switch k := v.GetKind().(type) {
		case *structpb.Value_StringValue:
			values = append(values, k.StringValue)
		case *structpb.Value_NumberValue:
			values = append(values, strconv.FormatFloat(k.NumberValue, 'f', -1, 64))
		case *structpb.Value_BoolValue:
			values = append(values, strconv.FormatBool(k.BoolValue))
		}
	}
	return values
}

// query is what becomes of a request's query.
type query struct {
	gone []string // names of parameters
	set  string   // what is added, encoded
}

// queryOf returns nil where the query stays.
func queryOf(ok *authv3.OkHttpResponse) *query {
	if len(ok.GetQueryParametersToSet())+len(ok.GetQueryParametersToRemove()) == 0 {
		return nil
	}
	q := &query{gone: slices.Clone(ok.GetQueryParametersToRemove())}
	for _, p := range ok.GetQueryParametersToSet() {
		q.gone = append(q.gone, p.GetKey())
		if q.set != "" {
			q.set += "&"
		}
		q.set += url.QueryEscape(p.GetKey()) + "=" + url.QueryEscape(p.GetValue())
	}
	return q
}
