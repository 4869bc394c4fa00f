package admin

import (
	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/credential"
)

// makeKeys makes the API keys of a consumer that is put by itself without them, but for those that old has, which stay.
// It returns them by name: the reply of the call is the only place where they are ever shown. old may be nil.
func makeKeys(m, old config.Message) map[string]string {
	c, ok := m.(*configv1.Consumer)
	if !ok {
		return nil
	}
	has := map[string]bool{}
	if before, ok := old.(*configv1.Consumer); ok {
		for _, k := range before.GetCredentials().GetApiKeys() {
			has[k.GetName()] = true
		}
	}
	made := map[string]string{}
	for _, k := range c.GetCredentials().GetApiKeys() {
		if k.GetKey() == "" && !has[k.GetName()] {
			k.Key = proto.String(credential.NewKey())
			made[k.GetName()] = k.GetKey()
		}
	}
	return made
}

// showKeys puts keys that were made into a reply.
func showKeys(m config.Message, made map[string]string) {
	if len(made) == 0 {
		return
	}
	c, _ := m.(*configv1.Consumer)
	for _, k := range c.GetCredentials().GetApiKeys() {
		if key, ok := made[k.GetName()]; ok {
			k.GeneratedKey = proto.String(key)
		}
	}
}
