package reason

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

var goNames = regexp.MustCompile(`\b(strconv|json|proto|protojson|x509|tls|asn1|yaml|time|netip|url|net|regexp|rpc|structpb|ParseUint|Atoi|` +
	`uint32|int64|Go value)\b[.:( ]`)

func TestPlainWords(t *testing.T) {
	of := func(_ any, err error) error { return err }
	read := func(text string) error { return protojson.Unmarshal([]byte(text), &configv1.Route{}) }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no number":         {of(strconv.ParseUint("x", 10, 32)), `"x" is no whole number`},
		"a negative number": {of(strconv.ParseUint("-1", 10, 32)), `"-1" is below 0`},
		"a sign alone":      {of(strconv.ParseUint("-", 10, 32)), `"-" is no whole number`},
		"a large number": {of(strconv.ParseInt("99999999999", 10, 32)),
			`"99999999999" is a number that is too large or too small`},
		"quotes":     {of(strconv.Atoi(`a"b`)), `"a\"b" is no whole number`},
		"no boolean": {of(strconv.ParseBool("maybe")), `"maybe" is neither true nor false`},
		"no float":   {of(strconv.ParseFloat("x", 64)), `"x" is no number`},
		"a duration": {of(time.ParseDuration("5 apples")),
			`"5 apples" is no duration such as "250ms", "30s" or "24h"`},
		"no unit":          {of(time.ParseDuration("5")), `"5" is no duration such as "250ms", "30s" or "24h"`},
		"a time":           {of(time.Parse(time.RFC3339, "soon")), `"soon" is no time such as "2026-01-31T12:00:00Z"`},
		"an address":       {of(netip.ParseAddr("1.2.3")), `"1.2.3" is no IP address`},
		"a prefix":         {of(netip.ParsePrefix("1.2.3.4/99")), `"1.2.3.4/99" is no IP address`},
		"an escape":        {of(url.ParseQuery("a=%zz")), `invalid URL escape "%zz"`},
		"JSON of a type":   {json.Unmarshal([]byte(`"x"`), new(int)), `a string stands where something else has to be`},
		"JSON":             {json.Unmarshal([]byte(`{`), new(int)), `unexpected end of JSON input`},
		"an unknown field": {read(`{"x": 1}`), `(line 1, column 2): unknown field "x"`},
		"a field's type": {read(`{"priority": "x"}`),
			`(line 1, column 14): invalid value for the whole number priority: "x"`},
		"a boolean's type": {read(`{"enabled": "x"}`), `(line 1, column 13): invalid value for the boolean enabled: "x"`},
		"a string's type":  {read(`{"path": 1}`), `(line 1, column 10): invalid value for the string path: 1`},
		"no JSON":          {read(`{"path": }`), `syntax error (line 1, column 10): unexpected token }`},
		"a certificate":    {of(x509.ParseCertificate([]byte("x"))), `malformed certificate`},
		"a key pair":       {of(tls.X509KeyPair(nil, nil)), `failed to find any PEM data in certificate input`},
		"an expression":    {of(regexp.Compile(strings.Repeat("(", 1))), "missing closing ): `(`"},
		"YAML":             {yaml.Unmarshal([]byte("a: 'b"), new(any)), `found unexpected end of stream`},
		"gRPC":             {status.Error(codes.Unavailable, "name resolver error"), `name resolver error`},
		"a parameter": {errors.New(`type mismatch, parameter: number, error: strconv.ParseUint: parsing "x": ` +
			`invalid syntax`), `number: "x" is no whole number`},
		"what is plain":      {errors.New(`the time: noon`), `the time: noon`},
		"a user's own words": {errors.New(`there is no route "json"`), `there is no route "json"`},
	} {
		got := Of(c.err)
		if got != c.want {
			t.Errorf("%s: %q, want %q (%s)", name, got, c.want, c.err)
		}
		if found := goNames.FindString(got); found != "" && name != "what is plain" && name != "a time" {
			t.Errorf("%s: %q has %q", name, got, found)
		}
	}
}
