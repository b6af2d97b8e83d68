// SPDX-License-Identifier: Apache-2.0

//! The generated code. The modules lie as the packages do, for it refers to them so.
pub mod config {
    pub mod core {
        pub mod v3 {
            tonic::include_proto!("envoy.config.core.v3");
        }
    }
}
pub mod extensions {
    pub mod filters {
        pub mod http {
            pub mod ext_proc {
                pub mod v3 {
                    tonic::include_proto!("envoy.extensions.filters.http.ext_proc.v3");
                }
            }
        }
    }
}
pub mod service {
    pub mod ext_proc {
        pub mod v3 {
            tonic::include_proto!("envoy.service.ext_proc.v3");
        }
    }
}
pub mod r#type {
    pub mod v3 {
        tonic::include_proto!("envoy.r#type.v3");
    }
}
