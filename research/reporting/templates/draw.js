// Draws FIGURES. Black in them stands for the colour of text, which is light in dark mode.
const night = matchMedia("(prefers-color-scheme: dark)");

function draw() {
  const [ink, paper, grid] = night.matches ? ["#ddd", "#181818", "#3a3a3a"]
    : ["#222", "#fff", "#e8e8e8"];
  const axis = {gridcolor: grid, zerolinecolor: grid, linecolor: "#888", ticks: "outside",
    automargin: true};
  const template = {layout: {
    font: {family: "system-ui, sans-serif", size: 13, color: ink},
    paper_bgcolor: paper, plot_bgcolor: paper,
    xaxis: axis, yaxis: {...axis, title: {standoff: 10}},
  }};
  const text = JSON.stringify(FIGURES).replaceAll('"#000000"', JSON.stringify(ink));
  JSON.parse(text).forEach(({data, layout}, number) => {
    const place = document.getElementById("figure" + number);
    if (layout.meta == "square") layout.height = Math.min(layout.height, place.clientWidth);
    const buttons = [["toImage", "resetScale2d"]];
    Plotly.react(place, data, {...layout, template},
      {responsive: true, displaylogo: false, modeBarButtons: buttons});
  });
}

draw();
night.addEventListener("change", draw);
