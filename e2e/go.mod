module gateway.internal/e2e

go 1.26.0

replace gateway.internal/proto => ../proto

replace gateway.internal/shared => ../shared

replace gateway.internal/controlplane => ../controlplane

replace gateway.internal/dataplane => ../dataplane
