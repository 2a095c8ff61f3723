// Draws FIGURES, on light paper or on dark.
const night = matchMedia("(prefers-color-scheme: dark)");
// What stands for black and the dark end of Viridis on dark paper, which would hide them.
const AT_NIGHT = {"#000000": "#dddddd", "#440154": "#b062c4", "#482878": "#9a72d4",
  "#3e4989": "#7d8ce0", "#31688e": "#5a9cc8"};

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
  let text = JSON.stringify(FIGURES);
  for (const [dark, light] of Object.entries(night.matches ? AT_NIGHT : {}))
    text = text.replaceAll(JSON.stringify(dark), JSON.stringify(light));
  JSON.parse(text).forEach(({data, layout}, number) => {
    const place = document.getElementById("figure" + number);
    if (layout.meta == "square") layout.height = Math.min(layout.height, place.clientWidth);
    if (place.clientWidth < 600 && data[0].type == "parcoords") {
      data[0].labelangle = -45;
      layout.margin.t = 130;
    }
    const buttons = [["toImage", "resetScale2d"]];
    Plotly.react(place, data, {...layout, template},
      {responsive: true, displaylogo: false, modeBarButtons: buttons});
  });
}

draw();
night.addEventListener("change", draw);
