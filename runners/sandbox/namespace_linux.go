package sandbox

// namespaceEnforcement is what a driver with namespaces of its own enforces.
func namespaceEnforcement(driver string) Enforcement {
	return Enforcement{
		Driver: driver, Level: LevelNamespace,
		Limits:  map[string]Strength{"memory": Soft, "tmp": Hard, "processes": Soft, "open_files": Hard, "file_size": Hard, "cpu": Not},
		Network: map[string]Strength{"none": Hard, "egress": Not},
	}
}
