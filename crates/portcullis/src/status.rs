//! `portcullis status`: how the Gateways of a cluster are, in one table.
//!
//! What flows in: the objects of a cluster with the statuses that the controller wrote, the Deployments of data planes, and the
//! controller's own. What flows out: a row for each of them, for each listener and each parent of a route, or a row for each
//! thing that is wrong with it.
//!
//! Nothing is judged here: what a status says is shown. What no status says is that nobody wrote one; that is shown too.

mod report;

use crate::cli::{OutputFormat, Status};
use crate::exit::Exit;
use crate::install::api_server::{self, ApiServer, Failure};
use crate::install::pods::{CONTROLLERS, trouble_of_the_controller};
use crate::install::{not_ready, resources};
use crate::objects::Selected;
use crate::output;
use portcullis_cluster::{Listing, Scope, Selection, list};
use report::{Controller, Report};

/// Reads, and prints.
pub(crate) fn run(arguments: &Status) -> Exit {
    let selected = match Selected::new(&arguments.selection) {
        Ok(selected) => selected,
        Err(problem) => {
            output::problem(&format!("portcullis: {problem}"));
            return Exit::Usage;
        }
    };
    let (listing, controllers) = match api_server::run(&arguments.cluster, async |server| read(&server).await) {
        Ok(read) => read,
        Err(failure) => {
            output::problem(&format!("portcullis: {failure}"));
            return Exit::Unreadable;
        }
    };
    for unread in &listing.unread {
        output::problem(&format!("portcullis: {}", unread.error));
    }
    for (key, error) in &listing.unparsable {
        output::problem(&format!("portcullis: {key} cannot be read: {error}"));
    }
    let report = Report::new(&listing, &controllers, &selected);
    let wide = arguments.selection.output == OutputFormat::Wide;
    let printed = match arguments.selection.output {
        OutputFormat::Table | OutputFormat::Wide => report.print_table(wide),
        OutputFormat::Name => output::bytes(report.names().as_bytes()),
        OutputFormat::Json => output::json(&report.value()),
        OutputFormat::Yaml => output::yaml(&report.value()),
    };
    if printed != Exit::Success {
        return printed;
    }
    if !listing.unread.is_empty() {
        return Exit::Unreadable;
    }
    if report.is_wrong() || !listing.unparsable.is_empty() { Exit::Problems } else { Exit::Success }
}

async fn read(server: &ApiServer) -> Result<(Listing, Vec<Controller>), Failure> {
    let selection = Selection { scope: Scope::default(), owned: true };
    let listing = list(&server.client, &selection).await?;
    // Who may not read Deployments of the controller's namespace sees the rest.
    let deployments = match server.list_selected(&resources::DEPLOYMENTS, CONTROLLERS).await {
        Ok(deployments) => deployments.unwrap_or_default(),
        Err(failure) => {
            output::problem(&format!("portcullis: {failure}"));
            Vec::new()
        }
    };
    let mut controllers = Vec::new();
    for deployment in deployments {
        let namespace = deployment["metadata"]["namespace"].as_str().unwrap_or_default();
        let trouble = match not_ready(&deployment) {
            Some(_) => trouble_of_the_controller(server, namespace).await,
            None => None,
        };
        controllers.push(Controller { deployment, trouble });
    }
    Ok((listing, controllers))
}
