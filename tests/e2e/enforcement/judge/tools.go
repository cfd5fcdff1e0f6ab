//go:build tools

// Package judge names the programs that are built here: second enforcers, with an engine of their own, as released.
package judge

import (
	_ "sigs.k8s.io/kube-network-policies/cmd/kube-network-policies/npa-v1alpha1"
	_ "sigs.k8s.io/kube-network-policies/cmd/kube-network-policies/npa-v1alpha2"
	_ "sigs.k8s.io/kube-network-policies/cmd/kube-network-policies/standard"
)
