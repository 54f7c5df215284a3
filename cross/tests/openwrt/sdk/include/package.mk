# Stands for OpenWrt's package.mk: carries out single parts of the recipe, and
# tells what it says, instead of building.
define BuildPackage
  $(Package/$(1))

  install:
	$(call Package/$(1)/install,$(DESTINATION))

  prepare:
	$(Build/Prepare)

  tell:
	@$$(info package $(1))
	@$$(info name $$(PKG_NAME))
	@$$(info version $$(PKG_VERSION)-r$$(PKG_RELEASE))
	@$$(info licence $$(PKG_LICENSE))
	@$$(info licence files $$(PKG_LICENSE_FILES))
	@$$(info section $$(SECTION))
	@$$(info depends $$(strip $$(subst +,,$$(filter-out @%,$$(DEPENDS)))))
	@$$(info conffiles $$(strip $$(Package/$(1)/conffiles)))
	@$$(info compile $$(strip $$(Build/Compile)))
	@$$(info description $$(strip $$(Package/$(1)/description)))
	@:
endef
