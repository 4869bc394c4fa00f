package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// serviceOf reads a service from JSON, with the names that users write.
func serviceOf(t *testing.T, fields string) *configv1.Service {
	t.Helper()
	s := &configv1.Service{}
	if err := protojson.Unmarshal([]byte(`{"name": "s", `+fields+`}`), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHealthSettingsAreValidated(t *testing.T) {
	for _, c := range []struct{ name, fields, field, says string }{
		{"all of a check", `"health_check_config": {"path": "/up", "method": "POST", "status_ranges": ["200-299", "404-404"],
			"headers": {"X-Probe": "1"}, "match": {"contains": "ok"}, "unhealthy_interval": "2s", "interval_jitter_percent": 0,
			"initial_state": "unhealthy"}`, "", ""},
		{"a question by tcp", `"health_check_config": {"type": "tcp", "send": "PING\r\n", "match": {"regex": "^\\+PONG"}}`,
			"", ""},
		{"a range with one end", `"health_check_config": {"status_ranges": ["200"]}`,
			"health_check_config.status_ranges[0]", `"200-299"`},
		{"a range backwards", `"health_check_config": {"status_ranges": ["299-200"]}`,
			"health_check_config.status_ranges[0]", "lower one first"},
		{"a range beyond", `"health_check_config": {"status_ranges": ["200-600"]}`, "health_check_config.status_ranges[0]",
			"from 100 to 599"},
		{"an unknown method", `"health_check_config": {"method": "PUT"}`, "health_check_config.method", "GET, HEAD"},
		{"a method by tcp", `"health_check_config": {"type": "tcp", "method": "GET"}`, "health_check_config.method",
			"of type http"},
		{"something to send by http", `"health_check_config": {"send": "x"}`, "health_check_config.send", "of type tcp"},
		{"a match by grpc", `"protocol": "grpc", "health_check_config": {"match": {"contains": "x"}}`,
			"health_check_config.match", `type "grpc"`},
		{"an empty match", `"health_check_config": {"match": {}}`, "health_check_config.match", "one of contains and regex"},
		{"two of a match", `"health_check_config": {"match": {"contains": "x", "regex": "x"}}`, "health_check_config.match",
			"one of contains and regex"},
		{"a match without a body", `"health_check_config": {"method": "HEAD", "match": {"contains": "x"}}`,
			"health_check_config.match", "no body"},
		{"no expression", `"health_check_config": {"match": {"regex": "("}}`, "health_check_config.match.regex", "RE2"},
		{"the host as a field", `"health_check_config": {"headers": {"Host": "x"}}`, "health_check_config.headers.Host",
			"health_check_config.host"},
		{"a field of the connection", `"health_check_config": {"headers": {"Connection": "close"}}`,
			"health_check_config.headers.Connection", "gateway itself"},
		{"no name of a field", `"health_check_config": {"headers": {"a b": "x"}}`, "health_check_config.headers.a b",
			"no header field name"},
		{"no value of a field", `"health_check_config": {"headers": {"a": "x\ny"}}`, "health_check_config.headers.a",
			"control characters"},
		{"an interval below the timeout", `"health_check_config": {"unhealthy_interval": "1s"}`,
			"health_check_config.unhealthy_interval", "the timeout, 2s"},
		{"much jitter", `"health_check_config": {"interval_jitter_percent": 51}`,
			"health_check_config.interval_jitter_percent", "from 0 to 50"},
		{"no checkers", `"health_check_config": {"checkers": 0}`, "", ""},
		{"many checkers", `"health_check_config": {"checkers": 1001}`, "health_check_config.checkers", "from 0 to 1000"},
		{"a state that is none", `"health_check_config": {"initial_state": "down"}`, "health_check_config.initial_state",
			"healthy, unhealthy"},

		{"all of an ejection",
			`"outlier_detection": {"consecutive_5xx": 3, "consecutive_gateway_failures": 0, "interval": "5s",
			"base_ejection_time": "10s", "max_ejection_time": "60s", "max_ejection_percent": 50,
				"success_rate": {"minimum_hosts": 3,
			"request_volume": 10, "stdev_factor": 1500}, "failure_percentage": {"threshold": 50}, "latency": {"factor": 2.5,
				"percentile": 95}}`, "", ""},
		{"many failures", `"outlier_detection": {"consecutive_5xx": 1001}`, "outlier_detection.consecutive_5xx",
			"from 0 to 1000"},
		{"a short interval", `"outlier_detection": {"interval": "1ms"}`, "outlier_detection.interval", "from 100ms to 1h"},
		{"no duration", `"outlier_detection": {"base_ejection_time": "soon"}`, "outlier_detection.base_ejection_time",
			"no duration"},
		{"no room to grow", `"outlier_detection": {"max_ejection_time": "20s"}`, "outlier_detection.max_ejection_time",
			"below base_ejection_time, 30s"},
		{"a share above all", `"outlier_detection": {"max_ejection_percent": 101}`,
			"outlier_detection.max_ejection_percent", "from 0 to 100"},
		{"one compared with itself", `"outlier_detection": {"success_rate": {"minimum_hosts": 1}}`,
			"outlier_detection.success_rate.minimum_hosts", "from 2"},
		{"a median of two", `"outlier_detection": {"latency": {"minimum_hosts": 2}}`,
			"outlier_detection.latency.minimum_hosts", "from 3"},
		{"faster than the median", `"outlier_detection": {"latency": {"factor": 1}}`, "outlier_detection.latency.factor",
			"above 1"},
		{"no factor", `"outlier_detection": {"latency": {"factor": "NaN"}}`, "outlier_detection.latency.factor", "above 1"},
		{"no percentile", `"outlier_detection": {"latency": {"percentile": 100}}`, "outlier_detection.latency.percentile",
			"from 0 to 99"},
	} {
		_, err := Empty().Plan([]Edit{put(serviceOf(t, c.fields))}, options())
		var problems Problems
		errors.As(err, &problems)
		if c.field == "" && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.field != "" && (len(problems) != 1 || problems[0].Field != c.field || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v; want one problem of %s that says %q", c.name, err, c.field, c.says)
		}
	}
}

func TestHealthCheckDefaults(t *testing.T) {
	got := ServiceSettingsOf(serviceOf(t, `"health_check_config": {"interval": "1s", "status_ranges": ["200-299"],
		"expected_statuses": [404], "headers": {"B": "2", "A": "1: x"}}`)).Check
	if got.Method != "GET" || got.UnhealthyInterval != time.Second || got.Timeout != time.Second ||
		got.JitterPercent != 5 || got.Checkers != 10 ||
		got.UnhealthyAtFirst {
		t.Errorf("%+v", got)
	}
	for status, want := range map[int]bool{199: false, 200: true, 250: true, 299: true, 300: false, 404: true,
		405: false} {
		if got.Passes(status) != want {
			t.Errorf("status %d passes: %v", status, !want)
		}
	}
	var fields []string
	got.Headers(func(name, value string) { fields = append(fields, name, value) })
	if d := cmp.Diff([]string{"A", "1: x", "B", "2"}, fields); d != "" {
		t.Error(d)
	}
}

func TestOutlierDefaults(t *testing.T) {
	if got := ServiceSettingsOf(serviceOf(t, `"protocol": "http"`)).Outlier; got != nil {
		t.Errorf("without outlier_detection: %+v", got)
	}
	want := &Outlier{
		Consecutive5xx: 5, ConsecutiveGateway: 5, Interval: 10 * time.Second,
		BaseEjectionTime: 30 * time.Second, MaxEjectionTime: 300 * time.Second, MaxEjectionPercent: 10,
	}
	if d := cmp.Diff(want, ServiceSettingsOf(serviceOf(t, `"outlier_detection": {}`)).Outlier); d != "" {
		t.Error(d)
	}
	want = &Outlier{
		Consecutive5xx: 0, ConsecutiveGateway: 1, Interval: 10 * time.Second, BaseEjectionTime: 10 * time.Minute,
		MaxEjectionTime:    10 * time.Minute,
		MaxEjectionPercent: 10, SuccessRate: OutlierRate{5, 100, 1900}, FailurePercentage: OutlierRate{5, 50, 85},
		Latency: OutlierLatency{MinimumHosts: 3, RequestVolume: 100, Factor: 3, Minimum: 10 * time.Millisecond},
	}
	if d := cmp.Diff(want, ServiceSettingsOf(serviceOf(t,
		`"outlier_detection": {"consecutive_5xx": 0, "consecutive_gateway_failures": 1,
		"base_ejection_time": "600s", "success_rate": {}, "failure_percentage": {}, "latency": {}}`)).Outlier); d != "" {
		t.Error(d)
	}
}
