# Stands for the feed's rust-package.mk, which builds with `cargo install`.
RUST_ARCH_DEPENDS:=@(aarch64||arm||mips||mipsel||x86_64)
Build/Compile/Cargo=cargo install --path $(1)
RustBinPackage=
