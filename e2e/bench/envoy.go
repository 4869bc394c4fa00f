package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// envoy is Envoy, one worker for each core, with its routes in a prefix tree: a list of them is looked through one by
// one.
type envoy struct{}

func (envoy) name() string { return "Envoy" }

func (envoy) can(setup) bool { return true }

func (envoy) launch(b *bench, s setup, address, dir string) (*process, error) {
	path, err := find("envoy")
	if err != nil {
		return nil, err
	}
	bootstrap, err := json.Marshal(envoyBootstrap(b, s, address, dir))
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "envoy.json")
	if err := os.WriteFile(conf, bootstrap, 0o644); err != nil {
		return nil, err
	}
	return launch(s.proxyCores(), nil, path, "-c", conf, "--concurrency", strconv.Itoa(s.cores), "--disable-hot-restart", "--log-level", "error")
}

// object is a JSON object.
type object = map[string]any

// typed is a message that says its type.
func typed(name string, fields object) object {
	fields["@type"] = "type.googleapis.com/envoy." + name
	return fields
}

func envoyAddress(address string) object {
	host, port, _ := strings.Cut(address, ":")
	return object{"socket_address": object{"address": host, "port_value": json.Number(port)}}
}

func envoyBootstrap(b *bench, s setup, address, dir string) object {
	routes := object{}
	for i := range s.routes {
		route := typed("config.route.v3.Route", object{"match": object{"prefix": "/"}, "route": object{"cluster": "files"}})
		routes[fmt.Sprintf("/r%d/", i)] = object{"action": object{"name": "route", "typed_config": route}}
	}
	path := object{"name": "path", "typed_config": object{"@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": ":path"}}
	manager := typed("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", object{
		"stat_prefix": "front", "use_remote_address": true,
		"common_http_protocol_options": object{"idle_timeout": "3600s"},
		"http_filters":                 []any{object{"name": "router", "typed_config": typed("extensions.filters.http.router.v3.Router", object{"suppress_envoy_headers": true})}},
		"route_config": object{
			"response_headers_to_add": []any{object{"header": object{"key": "x-gateway", "value": "yes"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
			"virtual_hosts":           []any{object{"name": "all", "domains": []any{"*"}, "matcher": object{"matcher_tree": object{"input": path, "prefix_match_map": object{"map": routes}}}}},
		},
	})
	if s.accessLog {
		file := typed("extensions.access_loggers.file.v3.FileAccessLog", object{"path": filepath.Join(dir, "access.log")})
		manager["access_log"] = []any{object{"name": "file", "typed_config": file}}
	}
	chain := object{"filters": []any{object{"name": "http", "typed_config": manager}}}
	if s.tls {
		certificate := object{"certificate_chain": object{"filename": b.certFile}, "private_key": object{"filename": b.keyFile}}
		context := object{"alpn_protocols": []any{"h2", "http/1.1"}, "tls_certificates": []any{certificate}}
		chain["transport_socket"] = object{"name": "tls", "typed_config": typed("extensions.transport_sockets.tls.v3.DownstreamTlsContext", object{"common_tls_context": context})}
	}
	endpoint := object{"endpoint": object{"address": envoyAddress(b.backend)}}
	return object{"static_resources": object{
		"listeners": []any{object{"name": "front", "address": envoyAddress(address), "tcp_backlog_size": 4096, "filter_chains": []any{chain}}},
		"clusters": []any{object{"name": "files", "type": "STATIC", "connect_timeout": "5s",
			"load_assignment": object{"cluster_name": "files", "endpoints": []any{object{"lb_endpoints": []any{endpoint}}}}}},
	}}
}
